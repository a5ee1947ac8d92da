# A web server of the standard library.
require "socket"

server = TCPServer.new("0.0.0.0", Integer(ENV.fetch("PORT", "8080")))
trap("TERM") { exit }
loop do
  Thread.new(server.accept) do |client|
    path = client.gets.to_s.split[1]
    nil until client.gets.to_s.strip.empty?
    body = path == "/env" ? ENV.map { |name, value| "#{name}=#{value}\n" }.join : "Hello from Ruby #{RUBY_VERSION}"
    client.write "HTTP/1.1 200 OK\r\ncontent-length: #{body.bytesize}\r\nconnection: close\r\n\r\n#{body}"
    client.close
  end
end
