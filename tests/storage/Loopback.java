import com.amazonaws.services.dynamodbv2.local.main.ServerRunner;
import com.amazonaws.services.dynamodbv2.local.server.DynamoDBProxyServer;
import java.lang.reflect.Field;
import org.eclipse.jetty.server.Connector;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;

/**
 * DynamoDB Local, which knows no bind address, on loopback only and on a free port; it prints "ready PORT".
 * It ends with its standard input, so that it never outlives the tests.
 */
class Loopback {
    public static void main(String[] args) throws Exception {
        DynamoDBProxyServer proxy = ServerRunner.createServerFromCommandLineArgs(
            new String[] {"-inMemory", "-sharedDb", "-disableTelemetry", "-port", "8000"});
        Field field = DynamoDBProxyServer.class.getDeclaredField("server");
        field.setAccessible(true);
        Server server = (Server) field.get(proxy);
        for (Connector connector : server.getConnectors()) {
            ((ServerConnector) connector).setHost("127.0.0.1");
            ((ServerConnector) connector).setPort(0); // any free one; the command line refuses 0
        }
        proxy.start();
        for (Connector connector : server.getConnectors()) {
            ServerConnector bound = (ServerConnector) connector;
            if (!"127.0.0.1".equals(bound.getHost())) throw new IllegalStateException("not bound to loopback");
            System.out.println("ready " + bound.getLocalPort());
        }
        while (System.in.read() >= 0) {}
        System.exit(0);
    }
}
