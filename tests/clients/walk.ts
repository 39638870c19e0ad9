/** The walk of test_clients.py with the generated TypeScript client: `node walk.js URL EMAIL OPERATOR_TOKEN`. */

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { giro, type Schemas } from "./client.js";

const [url, email, operatorToken] = process.argv.slice(2) as [string, string, string];
const password = "correct horse battery";

/** Return the data of an answer, or fail with its problem. */
function dataOf<Data>(answer: { data?: Data; error?: unknown }): Data {
  assert(answer.data !== undefined, JSON.stringify(answer.error));
  return answer.data;
}

const visitor = giro(url);
const user = dataOf(await visitor.POST("/signup", { body: { email, password, name: "Lin" } }));
assert.equal(user.email, email);
assert.equal(user.role, "customer");
const form = { "Content-Type": "application/x-www-form-urlencoded" };
const first = dataOf(await visitor.POST("/login", { body: { username: email, password }, headers: form }));
const tokens = dataOf(
  await visitor.POST("/login", {
    body: { username: email, password, device_token: first.device_token },
    headers: form,
  }),
);
const lin = giro(url, tokens.access_token);
assert.deepEqual(dataOf(await lin.GET("/users/me")), user);

const current = dataOf(await lin.POST("/accounts", { body: { currency: "EUR" } }));
const savings = dataOf(await lin.POST("/accounts", { body: { currency: "EUR" } }));
assert.equal(current.balance, 0);

const operator = giro(url, operatorToken);
const deposit = dataOf(
  await operator.POST("/deposits", {
    body: { to_account_id: current.id, amount: 50_000 },
    params: { header: { Prefer: "wait=20" } },
  }),
);
assert.equal(deposit.kind, "deposit");
assert.equal(deposit.status, "completed");

const order = {
  body: { from_account_id: current.id, to_account_id: savings.id, amount: 12_500 },
  params: { header: { "Idempotency-Key": "savings" } },
};
const accepted = await lin.POST("/transfers", order);
assert.equal(accepted.response.status, 202);
let transfer: Schemas["TransferOut"] = dataOf(accepted);
assert.equal(transfer.status, "pending");
for (let attempt = 0; transfer.status === "pending" && attempt < 200; attempt++) {
  await sleep(100);
  transfer = dataOf(
    await lin.GET("/transfers/{transfer_id}", { params: { path: { transfer_id: transfer.id } } }),
  );
}
assert.equal(transfer.status, "completed");
assert.equal(transfer.amount_decimal, "125.00");
const again = await lin.POST("/transfers", order);
assert.equal(again.response.headers.get("Idempotent-Replayed"), "true");

const page = dataOf(
  await lin.GET("/accounts/{account_id}/transactions", {
    params: { path: { account_id: savings.id }, query: { limit: 1 } },
  }),
);
assert.deepEqual(
  page.items.map((row) => [row.type, row.amount, row.balance_after]),
  [["credit", 12_500, 12_500]],
);
const read = dataOf(await lin.GET("/accounts/{account_id}", { params: { path: { account_id: current.id } } }));
assert.equal(read.available, 37_500);

const refused = await giro(url, "invalid").GET("/accounts");
assert.equal(refused.response.status, 401);
assert.equal(refused.error?.code, "unauthenticated");
console.log("walked");
