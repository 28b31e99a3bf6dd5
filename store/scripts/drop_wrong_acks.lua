-- Shared by the scripts that write acknowledgements.

-- Removes the acknowledgements at `key` if they are of a wrong type. Agents make them again; nothing else is in there.
local function drop_wrong_acks(key)
  if redis.call('TYPE', key).ok ~= 'hash' then
    redis.call('DEL', key)
  end
end
