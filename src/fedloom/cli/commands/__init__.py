"""What a person can type: names, arguments and help of every command; the work is done beside this folder."""
