-- The requests of wrk: transfers between random accounts, each with its own key.
-- Arguments: a file with one "account token" per line, "uniform" or "hot", a prefix that makes this run's keys unique,
-- and "adjacent" or "scattered": whether successive keys are also adjacent in an index.
local people, sent, hot, run, scattered = {}, 0, false, "", false

function init(args)
  for line in io.lines(args[1]) do
    local account, token = line:match("(%S+) (%S+)")
    people[#people + 1] = { account = account, token = token }
  end
  hot, run, scattered = args[2] == "hot", args[3], args[4] == "scattered"
  math.randomseed(os.time())
end

local function another(than)
  local drawn = math.random(#people - 1)
  return drawn < than and drawn or drawn + 1
end

local function pair()
  if hot and math.random(2) == 1 then -- one account pays or is paid in half of the transfers
    if math.random(2) == 1 then return 1, another(1) end
    return another(1), 1
  end
  local from = math.random(#people)
  return from, another(from)
end

local function key()
  if scattered then return string.format("%08x-%s-%d", math.random(0, 2147483647), run, sent) end
  return run .. "-" .. sent
end

function request()
  local from, to = pair()
  sent = sent + 1
  local headers = {
    ["Authorization"] = "Bearer " .. people[from].token,
    ["Content-Type"] = "application/json",
    ["Idempotency-Key"] = key(),
  }
  local body = string.format('{"from_account_id":"%s","to_account_id":"%s","amount":%d}',
    people[from].account, people[to].account, math.random(99))
  return wrk.format("POST", "/transfers", headers, body)
end
