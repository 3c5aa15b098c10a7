"""Jobs: commands of this project in processes of their own, and the queue that starts them."""
