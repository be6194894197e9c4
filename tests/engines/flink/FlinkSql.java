import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.apache.flink.api.common.JobStatus;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.core.execution.SavepointFormatType;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.ResultKind;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.types.Row;
import org.apache.flink.util.CloseableIterator;

/**
 * Runs a file of SQL statements in an embedded Flink cluster. Arguments: the file; `batch` or `stream`; milliseconds after which a running
 * INSERT is stopped (0: never); the directory for the savepoint of such a stop, or `none` to cancel it; the savepoint to begin
 * with, or `none`. Rows and the savepoint are printed.
 */
public class FlinkSql {
  public static void main(String[] args) throws Exception {
    long stopAfter = Long.parseLong(args[2]);
    Configuration conf = new Configuration();
    conf.setString("execution.checkpointing.interval", "1s");
    conf.setString("parallelism.default", "1");
    conf.setString("rest.port", "0");
    conf.setString("rest.bind-port", "0");
    conf.setString("taskmanager.memory.network.min", "32m");
    conf.setString("taskmanager.memory.network.max", "32m");
    conf.setString("taskmanager.memory.managed.size", "64m");
    conf.setString("taskmanager.numberOfTaskSlots", "4");
    conf.setString("restart-strategy.type", "none");
    conf.setString("classloader.check-leaked-classloader", "false");
    conf.setString("table.local-time-zone", "UTC");
    if (!args[4].equals("none")) {
      conf.setString("execution.state-recovery.path", args[4]);
    }
    TableEnvironment tables =
        args[1].equals("batch")
            ? TableEnvironment.create(EnvironmentSettings.newInstance().inBatchMode().withConfiguration(conf).build())
            : StreamTableEnvironment.create(StreamExecutionEnvironment.getExecutionEnvironment(conf));
    for (String statement : Files.readString(Path.of(args[0])).split(";\\s*\n")) {
      if (!statement.isBlank()) {
        run(tables, statement.strip(), stopAfter, args[3]);
      }
    }
    System.exit(0);
  }

  private static void run(TableEnvironment tables, String statement, long stopAfter, String directory) throws Exception {
    TableResult result = tables.executeSql(statement);
    if (statement.startsWith("INSERT") && stopAfter > 0) {
      JobClient job = result.getJobClient().orElseThrow();
      Thread.sleep(stopAfter);
      if (job.getJobStatus().get() != JobStatus.RUNNING) {
        throw new IllegalStateException("the job ended before it could be stopped: " + job.getJobStatus().get());
      }
      if (directory.equals("none")) {
        job.cancel().get(60, TimeUnit.SECONDS);
      } else {
        String savepoint = job.stopWithSavepoint(false, directory, SavepointFormatType.CANONICAL).get(60, TimeUnit.SECONDS);
        System.out.println("SAVEPOINT " + savepoint);
      }
    } else if (statement.startsWith("INSERT") || statement.startsWith("EXECUTE STATEMENT SET")) {
      result.await();
    } else if (result.getResultKind() == ResultKind.SUCCESS_WITH_CONTENT) {
      try (CloseableIterator<Row> rows = result.collect()) {
        while (rows.hasNext()) {
          System.out.println("ROW " + rows.next());
        }
      }
    }
  }
}
