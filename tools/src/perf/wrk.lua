-- Sends requests that were made and signed beforehand: wrk's own share of the work stays small, and the same for every
-- server. Arguments: a file of request heads separated by NUL, the length of the body of each, "cycle" or "one-each".
--
-- "cycle": each thread sends one request after the other, in the order of the file.
-- "one-each": thread n sends the n-th request alone, and wrk keeps it. For bodies that do not fit into the socket at
-- once: wrk asks for a new request whenever it goes on with one that OpenSSL has not taken at all yet.

local threads = 0

function setup(thread)
    thread:set("own_index", threads + 1)
    threads = threads + 1
end

function init(args)
    local file = assert(io.open(args[1], "rb"))
    local heads = file:read("*a")
    file:close()
    local body = string.rep("basalt! ", tonumber(args[2]) / 8)
    local requests = {}
    for head in heads:gmatch("[^%z]+") do
        if args[3] == "cycle" or #requests + 1 == own_index then
            requests[#requests + 1] = head .. body
        else
            requests[#requests + 1] = ""
        end
    end
    if args[3] == "cycle" then
        local index = 0
        function request()
            index = index % #requests + 1
            return requests[index]
        end
    else
        local own = requests[own_index]
        wrk.format = function() return own end
    end
    collectgarbage()
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        "\nfigures p50_us=%d p99_us=%d bad_status=%d bad_socket=%d timeouts=%d\n",
        latency:percentile(50), latency:percentile(99),
        errors.status, errors.connect + errors.read + errors.write, errors.timeout))
end
