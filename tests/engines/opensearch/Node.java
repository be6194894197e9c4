import static org.codelibs.opensearch.runner.OpenSearchRunner.newConfigs;

import org.codelibs.opensearch.runner.OpenSearchRunner;

/** One node of OpenSearch on a port, until it is killed: Node DIRECTORY HTTP-PORT TRANSPORT-PORT. */
public class Node {
    public static void main(String[] args) throws Exception {
        OpenSearchRunner runner = new OpenSearchRunner();
        runner.onBuild((number, settings) -> {
            settings.put("discovery.type", "single-node");
            settings.put("network.host", "127.0.0.1");
            settings.put("http.port", args[1]);
            settings.put("transport.port", args[2]);
        });
        runner.build(newConfigs().clusterName("esker").numOfNode(1).basePath(args[0]).useLogger());
        Thread.sleep(Long.MAX_VALUE);
    }
}
