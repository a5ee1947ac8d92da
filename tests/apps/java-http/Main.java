import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;

/** A web server of the runtime's own library. */
public class Main {
    public static void main(String[] arguments) throws IOException {
        int port = Integer.parseInt(System.getenv("PORT"));
        HttpServer server = HttpServer.create(new InetSocketAddress(port), 0);
        String hello = "Hello from Java " + Runtime.version().feature() + "\n";
        answer(server, "/", () -> hello);
        answer(server, "/env", () -> System.getenv("JAVA_TOOL_OPTIONS") + "\nSERVER_PORT=" + System.getenv("SERVER_PORT") + "\n");
        server.start();
    }

    interface Text {
        String get();
    }

    static void answer(HttpServer server, String path, Text text) {
        server.createContext(path, exchange -> {
            byte[] body = text.get().getBytes(StandardCharsets.UTF_8);
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
    }
}
