import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;

/**
 * Runs commands over the Flight SQL JDBC driver. Arguments: the URL; commands. The user and the password are the variables
 * JDBC_USER and JDBC_PASSWORD.
 *
 * A command is `catalogs`, `schemas`, `tables`, or a statement; after `prepared:` it has one parameter, which is 1. Prints a line
 * `ROW` for each row, with columns separated by bars, and then `DONE`; or a line `ERROR`. It is the only line if the connection
 * is refused.
 */
public class FlightJdbc {
  public static void main(String[] args) {
    Properties properties = new Properties();
    properties.put("user", System.getenv("JDBC_USER"));
    properties.put("password", System.getenv("JDBC_PASSWORD"));
    try (Connection connection = DriverManager.getConnection(args[0], properties)) {
      for (int i = 1; i < args.length; i++) {
        try {
          run(connection, args[i]);
          System.out.println("DONE");
        } catch (SQLException | RuntimeException error) {
          System.out.println("ERROR " + text(error));
        }
      }
    } catch (SQLException | RuntimeException error) {
      System.out.println("ERROR " + text(error));
    }
    System.out.flush();
    // Threads of the driver would keep the program.
    System.exit(0);
  }

  private static void run(Connection connection, String command) throws SQLException {
    DatabaseMetaData metadata = connection.getMetaData();
    if (command.equals("catalogs")) {
      print(metadata.getCatalogs(), 1);
    } else if (command.equals("schemas")) {
      print(metadata.getSchemas(), 2);
    } else if (command.equals("tables")) {
      print(metadata.getTables(null, null, "%", null), 3);
    } else if (command.startsWith("prepared:")) {
      try (PreparedStatement statement = connection.prepareStatement(command.substring("prepared:".length()))) {
        statement.setLong(1, 1);
        print(statement.executeQuery(), Integer.MAX_VALUE);
      }
    } else {
      try (Statement statement = connection.createStatement()) {
        if (statement.execute(command)) {
          print(statement.getResultSet(), Integer.MAX_VALUE);
        }
      }
    }
  }

  private static void print(ResultSet rows, int columns) throws SQLException {
    try (rows) {
      int shown = Math.min(columns, rows.getMetaData().getColumnCount());
      while (rows.next()) {
        List<String> values = new ArrayList<>();
        for (int i = 1; i <= shown; i++) {
          values.add(String.valueOf(rows.getObject(i)));
        }
        System.out.println("ROW " + String.join("|", values));
      }
    }
  }

  /** Returns the texts of an error and its causes in one line. */
  private static String text(Throwable error) {
    StringBuilder text = new StringBuilder();
    for (Throwable cause = error; cause != null; cause = cause.getCause()) {
      text.append(cause).append("; ");
    }
    return text.toString().replaceAll("\\s+", " ");
  }
}
