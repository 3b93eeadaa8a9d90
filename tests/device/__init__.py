"""What only a real device shows. Where there is none, the tests say so; their logic also runs over the doubles."""
