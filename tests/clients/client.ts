/** A client of Giro: every call of the OpenAPI document with its types. `make clients` copies this file. */

import createClient, { type Client } from "openapi-fetch";
import type { components, paths } from "./schema.js";

export type Schemas = components["schemas"];

/** Make a client. Without a token it can only sign up, log in and read the health of the service. */
export function giro(baseUrl: string, token?: string): Client<paths> {
  return createClient<paths>({ baseUrl, headers: token === undefined ? {} : { Authorization: `Bearer ${token}` } });
}
