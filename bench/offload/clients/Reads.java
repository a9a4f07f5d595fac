/* A pgjdbc application with autocommit off, as frameworks have it: BEGIN travels in the batch of the first statement. */

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Properties;

public class Reads {
    private static final String[] READS = {
        "select owner, balance from account where id = ?",
        "select id, amount from entry where account = ? order by id desc limit 10",
        "select count(*) from entry where account = ?",
    };

    /** Arguments: URL, user, rounds, whether the connection is read only, every how many rounds one writes. */
    public static void main(String[] args) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", args[1]);
        properties.setProperty("password", System.getenv("PGPASSWORD"));
        boolean readOnly = Boolean.parseBoolean(args[3]);
        int rounds = Integer.parseInt(args[2]), writeEvery = Integer.parseInt(args[4]);
        try (Connection connection = DriverManager.getConnection(args[0], properties)) {
            connection.setAutoCommit(false);
            connection.setReadOnly(readOnly);
            for (int round = 0; round < rounds; round++) {
                int account = 1 + round * 37 % 1000;
                for (String text : READS)
                    read(connection, text, account);
                if (!readOnly && round % writeEvery == writeEvery - 1) {
                    write(connection, "insert into entry (account, amount) values (?, ?)", account, 5);
                    write(connection, "update account set balance = balance + ? where id = ?", 5, account);
                    read(connection, "select sum(amount) from entry where account = ?", account);
                }
                connection.commit();
            }
        }
    }

    private static void read(Connection connection, String text, int account) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(text)) {
            statement.setInt(1, account);
            try (ResultSet rows = statement.executeQuery()) {
                while (rows.next())
                    rows.getObject(1);
            }
        }
    }

    private static void write(Connection connection, String text, int first, int second) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(text)) {
            statement.setInt(1, first);
            statement.setInt(2, second);
            statement.executeUpdate();
        }
    }
}
