"""What a text is: the lexer's tokens to facts, and the rules by name. Sans-I/O."""
