-- Counts failures in the record of KEYS[1], whether or not the next try has to wait: `Patience.count` of
-- core/domain/throttles.py. ARGV: the time, the number of failures, the time that forgets one, the most that are kept,
-- and the longest wait; times in microseconds. Returns the record.
local now, tries, forget = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local gone = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) %d+$')
gone = math.min(math.max(tonumber(gone or 0), now) + tries * forget, now + tonumber(ARGV[4]) * forget)
local record = string.format('%.0f %.0f', gone, now)
redis.call('SET', KEYS[1], record, 'PX', math.ceil(math.max(gone - now, tonumber(ARGV[5])) / 1000))
return record
