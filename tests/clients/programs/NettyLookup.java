import io.netty.channel.EventLoop;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioDatagramChannel;
import io.netty.channel.socket.nio.NioSocketChannel;
import io.netty.handler.codec.dns.DefaultDnsQuestion;
import io.netty.handler.codec.dns.DnsRecord;
import io.netty.handler.codec.dns.DnsRecordType;
import io.netty.resolver.ResolvedAddressTypes;
import io.netty.resolver.dns.DnsNameResolver;
import io.netty.resolver.dns.DnsNameResolverBuilder;
import io.netty.util.concurrent.Future;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.UnknownHostException;
import java.util.ArrayList;
import java.util.List;

/** Look-ups through netty's DnsNameResolver with its defaults, and TCP on. A line in, a line out, as lookup.c. */
class NettyLookup {
    private static final EventLoop LOOP = new NioEventLoopGroup(1).next();
    private static final DnsNameResolver BOTH = make(null);
    private static final DnsNameResolver IPV4 = make(ResolvedAddressTypes.IPV4_ONLY);
    private static final DnsNameResolver IPV6 = make(ResolvedAddressTypes.IPV6_ONLY);

    private static DnsNameResolver make(ResolvedAddressTypes types) {
        DnsNameResolverBuilder builder = new DnsNameResolverBuilder(LOOP)
                .channelType(NioDatagramChannel.class).socketChannelType(NioSocketChannel.class);
        return types == null ? builder.build() : builder.resolvedAddressTypes(types).build();
    }

    private static List<String> addresses(DnsNameResolver resolver, String name) throws Exception {
        List<String> words = new ArrayList<>();
        for (InetAddress address : resolver.resolveAll(name).sync().get()) words.add(address.getHostAddress());
        return words;
    }

    private static List<String> look(String[] words) throws Exception {
        switch (words[0]) {
            case "any": return addresses(BOTH, words[1]);
            case "4": return addresses(IPV4, words[1]);
            case "6": return addresses(IPV6, words[1]);
            case "type":
                DnsRecordType type = DnsRecordType.valueOf(Integer.parseInt(words[1]));
                List<DnsRecord> found = BOTH.resolveAll(new DefaultDnsQuestion(words[2], type)).sync().get();
                if (found.isEmpty()) throw new UnknownHostException("NODATA");
                return List.of(String.valueOf(found.size()));
            case "many":
                List<Future<List<InetAddress>>> all = new ArrayList<>();
                for (int number = 0; number < Integer.parseInt(words[1]); number++) {
                    all.add(BOTH.resolveAll("m" + number + "." + words[2]));
                }
                for (Future<List<InetAddress>> one : all) one.sync();
                return List.of(words[1]);
            default: return null;
        }
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            long began = System.nanoTime();
            String status = "ok";
            List<String> words;
            try {
                words = look(line.split(" "));
                if (words == null) {
                    status = "na";
                    words = List.of();
                }
            } catch (UnknownHostException error) {
                Throwable cause = error;
                StringBuilder text = new StringBuilder();
                for (; cause != null; cause = cause.getCause()) text.append(cause).append(' ');
                status = text.toString().contains("Timeout") || text.toString().contains("SERVFAIL")
                        || text.toString().contains("REFUSED") ? "fail" : "none";
                words = List.of(error.getClass().getSimpleName(), text.toString().replace(' ', '_').replace('\n', '_'));
            } catch (Exception error) {
                status = "fail";
                words = List.of(error.toString().replace(' ', '_'));
            }
            System.out.printf("%.3f %s %s%n", (System.nanoTime() - began) / 1e6, status, String.join(" ", words));
            System.out.flush();
        }
        System.exit(0);
    }
}
