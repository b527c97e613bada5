-- Requests for wrk, and its results as one line of JSON. The arguments are the operation and
-- `name=number` settings. `shared/store/examples/bench-store/seed.rs` makes the same ids.

local settings = {}
local urls = {}
local made = 0
local headers = " HTTP/1.1\r\nHost: bench\r\n"

local function id(number)
   local block = math.floor(number / 65536)
   return string.format("%08x-%04x-7000-8000-%012x", 0x01900000 + block, number % 65536, number)
end

local function any_id()
   return id(settings.first + math.random(0, settings.count - 1))
end

local function with_body(start, body)
   return start .. headers .. "Content-Type: application/json\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end

local operations = {}

function operations.post()
   local conversation = math.random(0, settings.conversations - 1)
   return with_body("POST /api/messages", string.format(
      '{"from_user_id":"user-%d","to_user_id":"reader-%d","content":"message %d of run %d: about as long as what people write to each other"}',
      conversation, conversation, made, settings.run))
end

function operations.get()
   return "GET /api/messages/" .. any_id() .. headers .. "\r\n"
end

function operations.list()
   local conversation = math.random(0, settings.long - 1)
   local limit = math.random(settings.shortest or 50, settings.longest or 50)
   return string.format("GET /api/messages?from_user_id=user-%d&to_user_id=reader-%d&limit=%d",
      conversation, conversation, limit) .. headers .. "\r\n"
end

function operations.put()
   return with_body("PUT /api/messages/" .. any_id(), string.format(
      '{"content":"edit %d of run %d: about as long as what people write to each other"}', made, settings.run))
end

-- Each message once.
function operations.delete()
   return "DELETE /api/messages/" .. id(settings.first + made - 1) .. headers .. "\r\n"
end

function operations.urls()
   return "GET " .. urls[math.random(1, #urls)] .. headers .. "\r\n"
end

function init(args)
   for index = 2, #args do
      local name, value = args[index]:match("^(%w+)=(.*)$")
      if name == "file" then
         for line in io.lines(value) do urls[#urls + 1] = line end
      else
         settings[name] = tonumber(value)
      end
   end
   math.randomseed(settings.run)
   local operation = operations[args[1]]
   request = function()
      made = made + 1
      return operation()
   end
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      'RESULT {"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d,"max_us":%d,"refused":%d,"failed":%d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
      latency:percentile(99.9), latency.max, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout))
end
