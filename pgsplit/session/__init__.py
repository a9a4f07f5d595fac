"""A client's session: its handshake and login, the loop that follows the splitter, and the relay of bytes."""
