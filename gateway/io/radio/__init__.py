"""The privileged radio helper: reads every advertisement from the kernel, hands it to the daemon, resets adapters."""
