-- Removes a Will that is persisted: where it was when it was due, or where take_over.lua has put it since.
-- KEYS wills  ARGV prefix name id
local prefix, name, id = unpack(ARGV, 1, 3)
for _, place in ipairs({name, name .. '\0' .. id}) do
  local will = prefix .. 'w:' .. place
  if redis.call('HGET', will, 'i') == id then
    redis.call('DEL', will)
    redis.call('ZREM', KEYS[1], place)
  end
end
return 0
