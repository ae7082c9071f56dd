// The interface of the two implementations of a WireGuard device: that of the kernel (kernel.ts) and the process
// wireguard-go (wireguard-go.ts). They differ only in how a device is made and recognised; `wg` sets up both.
import type { Run } from '../../ports.ts'
import type { Command } from '../../tools/command.ts'
import type { Link } from '../../tools/ip-json.ts'

/** Makes and recognises devices of one implementation. */
export interface WireguardDevice {
  /** Programs that this implementation needs in addition to `ip` and `wg`. */
  readonly tools: readonly string[]
  /** The command that makes a device of this name. */
  createCommand(device: string): Command
  /** Makes the device. Errors: HostError; DEVICE_TAKEN and NO_TUN with wireguard-go. */
  create(run: Run, device: string, signal: AbortSignal): Promise<void>
  /** Returns whether the link of the name `device` is of this implementation, so that `wg` can set it up. */
  owns(link: Link, device: string): Promise<boolean>
}
