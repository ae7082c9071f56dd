// Opens the data plane: the part of the agent that programs the kernel of this host. It works in full, or not at all
// when the kernel, the tools or the privileges are missing. An agent without a data plane still replicates, answers
// DNS and prints plans.
import { join } from 'node:path'
import type { HostOp } from '../../core/host/host-state.ts'
import { createHost, type LinuxHost } from '../../io/host/host.ts'
import { wireguardPrivateKey } from '../../io/crypto/crypto.ts'
import type { Identity, Store } from '../../io/store/store.ts'
import { base64, bytes } from '../identity/encoding.ts'
import { explain, READ_LOG, sentence } from '../observe/errors.ts'
import type { Health } from '../observe/health.ts'
import type { Settings } from '../settings/settings.ts'

// Deadline for removing all that the agent has set: a host of a large mesh has some thousand objects, and a tool
// removes each of them.
export const CLEANUP_DEADLINE_MS = 30_000

/** The data plane of the process; it outlives sessions. */
export interface DataPlane {
  /** undefined: there is no data plane on this machine. */
  readonly host: LinuxHost | undefined
  /** The reason why there is no data plane, as a line for `meshctl status`; undefined: there is one. */
  readonly fault: string | undefined
  /** Returns the commands that an operation stands for. Works without a data plane, too, for `meshctl plan`. */
  readonly describe: (op: HostOp) => readonly string[]
  /**
   * What the host could not set up and does without; the set grows while the agent runs. agent/part-watch.ts reports
   * it.
   */
  readonly warnings: ReadonlySet<string>
}

/**
 * Checks the host and starts to own its network. With `dataplane: auto`, a missing precondition is the fault
 * DATAPLANE_OFF and the agent runs on without data plane.
 * Errors: the first HostError of the checks when the setting dataplane is `on`; HostError SECOND_INSTANCE when
 * another agent runs in this network namespace.
 */
export async function startDataPlane(options: {
  readonly settings: Settings
  readonly store: Pick<Store, 'identity'>
  readonly health: Health
}): Promise<DataPlane> {
  const { settings, store, health } = options
  const warnings = new Set<string>()
  const host = hostOf(settings, {
    privateKey: () => privateKeyOf(store.identity()),
    warn: (message) => warnings.add(message)
  })
  const shared = { describe: (op: HostOp) => host.describe(op), warnings }
  if (settings.dataplane === 'off')
    return { ...shared, host: undefined, fault: 'switched off by the setting dataplane' }
  const [fault] = await host.preflight()
  if (fault !== undefined) {
    if (settings.dataplane === 'on') throw fault
    const { message, fix } = explain(fault)
    health.set('DATAPLANE_OFF', {
      severity: 'critical',
      message: `no packet reaches another cluster from this host: the data plane cannot run: ${message}`,
      fix: `${fix ?? READ_LOG}, then restart meshd; on a host that needs no data plane, set dataplane: off`
    })
    return { ...shared, host: undefined, fault: sentence(fault) }
  }
  await host.start()
  return { ...shared, host, fault: undefined }
}

/** Returns the WireGuard private key of an identity in base64; '' where there is none. */
function privateKeyOf(identity: Identity | undefined): string {
  return identity === undefined ? '' : base64(wireguardPrivateKey(bytes(identity.tunnelSeed)))
}

/**
 * Returns the host that the settings describe, before `start()`; `meshd cleanup` uses it, too. `privateKey` returns
 * the WireGuard key of the tunnel in base64; it is asked for each time the tunnel is set and is not kept.
 */
export function hostOf(
  settings: Settings,
  options: { readonly privateKey: () => string; readonly warn: (message: string) => void }
): LinuxHost {
  return createHost({
    device: settings.device,
    stateFolder: join(settings['state-dir'], 'host'),
    loadBalancer: settings['load-balancer'],
    sysctlRoot: settings['sysctl-root'],
    names: { probePort: settings['probe-port'] },
    ...options
  })
}
