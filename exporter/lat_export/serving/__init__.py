"""What runs inside a server, without lat-export: each file is copied into a deployment with what it imports."""
