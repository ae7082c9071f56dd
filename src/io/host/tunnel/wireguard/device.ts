// A WireGuard device has two implementations: the kernel's (kernel.ts) and the process wireguard-go (wireguard-go.ts).
import type { Run } from '../../ports.ts'
import type { Command } from '../../tools/command.ts'
import type { Link } from '../../tools/ip-json.ts'

export interface WireguardDevice {
  /** Programs that it needs beside `ip` and `wg`. */
  readonly tools: readonly string[]
  createCommand(device: string): Command
  /** Errors: HostError. */
  create(run: Run, device: string, signal: AbortSignal): Promise<void>
  /** Whether the link that `ip` shows for the name `device` is such a device, which `wg` can steer. */
  owns(link: Link, device: string): Promise<boolean>
}
