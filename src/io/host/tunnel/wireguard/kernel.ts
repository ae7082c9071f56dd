// The WireGuard device of the kernel, which Linux has since 5.6 or as a module. A device is made by `ip link add`, and
// recognised by its kind in `ip -d link show`.
import { HostError } from '../../errors.ts'
import { runCommand, type Command } from '../../tools/command.ts'
import type { WireguardDevice } from './device.ts'

/** The implementation in the kernel. It needs no further tool. */
export const KERNEL_WIREGUARD: WireguardDevice = {
  tools: [],
  createCommand,
  create: (run, device, signal) => runCommand(run, createCommand(device), { signal }),
  owns: async ({ kind }) => kind === 'wireguard'
}

/** Returns whether KERNEL_WIREGUARD.create failed because this kernel has no WireGuard. It reads the words of `ip`. */
export function isAbsent(error: unknown): boolean {
  return error instanceof HostError && /unknown device type|not supported/i.test(error.stderr)
}

function createCommand(device: string): Command {
  return { tool: 'ip', args: ['link', 'add', 'dev', device, 'type', 'wireguard'] }
}
