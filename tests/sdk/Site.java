import com.sun.net.httpserver.Headers;
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;

/** A site on Java's own server: prints its port, and answers with what it was asked for and the header that says who verified it. */
class Site {
    public static void main(String[] arguments) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.createContext("/", exchange -> {
            Headers headers = exchange.getRequestHeaders();
            String moved = headers.getFirst("X-Forwarded-Prefix");
            String seen = "{\"path\":" + quoted(exchange.getRequestURI().getPath())
                + ",\"verified\":" + quoted(headers.getFirst("Hookward-Verified"))
                + ",\"moved\":" + quoted(moved != null ? moved : headers.getFirst("Script-Name")) + "}";
            byte[] body = seen.getBytes("UTF-8");
            exchange.getResponseHeaders().set("Content-Type", "application/json");
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
        System.out.println(server.getAddress().getPort());
    }

    static String quoted(String text) {
        return text == null ? "null" : "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"") + "\"";
    }
}
