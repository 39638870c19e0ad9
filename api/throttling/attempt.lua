-- Counts one attempt in the records of all KEYS, unless one of them has to wait: `Patience.look` and `count` of
-- core/domain/throttles.py, in one step that no other process can interrupt. ARGV: the time, the first and the longest
-- wait, then for each key its free attempts, the time that forgets one, and the most that are kept; times in
-- microseconds. Returns whether one has to wait (1), and each record.
local now, first, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local records, waits = {}, 0
local function failures(record, at)
  local count = math.ceil((record.gone - at) / record.forget)
  return math.min(record.most, math.max(0, count))
end
for i, key in ipairs(KEYS) do
  local gone, tried = string.match(redis.call('GET', key) or '', '^(%d+) (%d+)$')
  local record = {
    gone = tonumber(gone or 0), tried = tonumber(tried or 0),
    free = tonumber(ARGV[1 + 3 * i]), forget = tonumber(ARGV[2 + 3 * i]), most = tonumber(ARGV[3 + 3 * i])
  }
  if 0 < record.tried and record.tried <= now then
    local count = failures(record, record.tried)
    if count >= record.free then
      local delay = math.min(first * 2 ^ (count - record.free), longest)
      if record.tried + delay > now then waits = 1 end
    end
  end
  records[i] = record
end
local answer = {waits}
for i, key in ipairs(KEYS) do
  local record = records[i]
  if waits == 0 then
    record.gone = math.min(math.max(record.gone, now) + record.forget, now + record.most * record.forget)
    record.tried = now
    local kept = math.max(record.gone - now, longest)
    redis.call('SET', key, string.format('%.0f %.0f', record.gone, record.tried), 'PX', math.ceil(kept / 1000))
  end
  answer[i + 1] = string.format('%.0f %.0f', record.gone, record.tried)
end
return answer
