import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Hashtable;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import javax.naming.NameNotFoundException;
import javax.naming.directory.Attribute;
import javax.naming.directory.InitialDirContext;

/** Look-ups through Java's InetAddress, and for `type` through JNDI's DNS. A line in, a line out, as lookup.c. */
class Lookup {
    private static final String[] TYPES = new String[256];

    static {
        TYPES[16] = "TXT";
        TYPES[33] = "SRV";
        TYPES[12] = "PTR";
    }

    private static String[] look(String[] words) throws Exception {
        switch (words[0]) {
            case "any":
                return Arrays.stream(InetAddress.getAllByName(words[1]))
                        .map(InetAddress::getHostAddress).toArray(String[]::new);
            case "ptr":
                String name = InetAddress.getByAddress(InetAddress.getByName(words[1]).getAddress()).getHostName();
                if (name.contains(":")) throw new UnknownHostException(name);
                return new String[] {name};
            case "type":
                return records(Integer.parseInt(words[1]), words[2]);
            case "many":
                return many(Integer.parseInt(words[1]), words[2]);
            default:
                return null;
        }
    }

    private static String[] records(int number, String name) throws Exception {
        if (TYPES[number] == null) return null;
        Hashtable<String, String> settings = new Hashtable<>();
        settings.put("java.naming.factory.initial", "com.sun.jndi.dns.DnsContextFactory");
        Attribute found = new InitialDirContext(settings)
                .getAttributes("dns:///" + name, new String[] {TYPES[number]}).get(TYPES[number]);
        if (found == null) throw new NameNotFoundException("NODATA");
        return new String[] {String.valueOf(found.size())};
    }

    private static String[] many(int count, String suffix) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(count);
        List<Callable<Integer>> tasks = new ArrayList<>();
        for (int number = 0; number < count; number++) {
            String name = "m" + number + "." + suffix;
            tasks.add(() -> InetAddress.getAllByName(name).length);
        }
        try {
            for (Future<Integer> one : threads.invokeAll(tasks)) one.get();
        } finally {
            threads.shutdownNow();
        }
        return new String[] {String.valueOf(count)};
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            long began = System.nanoTime();
            String status = "ok";
            String[] words;
            try {
                words = look(line.split(" "));
                if (words == null) {
                    status = "na";
                    words = new String[0];
                }
            } catch (UnknownHostException | NameNotFoundException error) {
                boolean temporary = String.valueOf(error.getMessage()).contains("Temporary");
                status = temporary ? "fail" : "none";
                words = new String[] {error.getClass().getSimpleName()};
            } catch (Exception error) {
                status = "fail";
                words = new String[] {error.toString().replace(' ', '_')};
            }
            System.out.printf("%.3f %s %s%n", (System.nanoTime() - began) / 1e6, status, String.join(" ", words));
            System.out.flush();
        }
    }
}
