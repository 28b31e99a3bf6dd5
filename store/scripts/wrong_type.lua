-- Shared by the scripts that write: they look at all types first, so that no command fails after another has written.

-- An error that names the first of the pairs `key, type` whose key has another type; nil if each has its type or is not
-- there.
local function wrong_type(...)
  local checked = {...}
  for i = 1, #checked, 2 do
    local actual = redis.call('TYPE', checked[i]).ok
    if actual ~= 'none' and actual ~= checked[i + 1] then
      return redis.error_reply('WRONGKEY ' .. checked[i] .. ' is of the type ' .. actual .. ', and must be a '
        .. checked[i + 1])
    end
  end
end
