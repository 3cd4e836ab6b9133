"""The plan: logical nodes, rules, physical chains, explain."""
