// WireGuard of the kernel.
import { HostError } from '../../errors.ts'
import { runCommand, type Command } from '../../tools/command.ts'
import type { WireguardDevice } from './device.ts'

export const KERNEL_WIREGUARD: WireguardDevice = {
  tools: [],
  createCommand,
  create: (run, device, signal) => runCommand(run, createCommand(device), { signal }),
  owns: async ({ kind }) => kind === 'wireguard'
}

/** Whether KERNEL_WIREGUARD.create failed because this kernel has no WireGuard. */
export function isAbsent(error: unknown): boolean {
  return error instanceof HostError && /unknown device type|not supported/i.test(error.stderr)
}

function createCommand(device: string): Command {
  return { tool: 'ip', args: ['link', 'add', 'dev', device, 'type', 'wireguard'] }
}
