-- Takes an attempt that did not fail back from the record of KEYS[1]: `Patience.forgive`. ARGV: the time of the attempt,
-- and the time that forgets one, in microseconds.
local gone, tried = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
if gone then
  if tonumber(tried) == tonumber(ARGV[1]) then tried = '0' end
  gone = math.max(0, tonumber(gone) - tonumber(ARGV[2]))
  redis.call('SET', KEYS[1], string.format('%.0f %s', gone, tried), 'KEEPTTL')
end
