-- Removes a Will that is persisted, unless another one has its place.
-- KEYS wills  ARGV prefix name id
local will = ARGV[1] .. 'w:' .. ARGV[2]
if redis.call('HGET', will, 'i') == ARGV[3] then
  redis.call('DEL', will)
  redis.call('ZREM', KEYS[1], ARGV[2])
end
return 0
