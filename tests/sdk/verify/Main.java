import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Base64;
import java.util.Map;
import java.util.stream.Stream;

/** Beside the page's class: a line of four fields in base64 (key, timestamp, signature, body), a verdict for each. */
class Main {
    public static void main(String[] arguments) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; ) {
            byte[][] fields = Stream.of(line.split(",", -1)).map(Base64.getDecoder()::decode).toArray(byte[][]::new);
            var headers = Map.of(
                "telnyx-timestamp", new String(fields[1]), "telnyx-signature-ed25519", new String(fields[2]));
            try {
                System.out.println(TelnyxWebhook.verify(new String(fields[0]), headers, fields[3]));
            } catch (Exception notAKey) {
                System.out.println("error");
            }
        }
    }
}
