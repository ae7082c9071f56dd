// The host as this agent may program it: whole, or not at all where the kernel, the tools or the rights are missing.
import { join } from 'node:path'
import type { HostOp } from '../../core/host/host-state.ts'
import { createHost, type LinuxHost } from '../../io/host/host.ts'
import type { Store } from '../../io/store/store.ts'
import { explain, sentence } from '../observe/errors.ts'
import type { Health } from '../observe/health.ts'
import type { Settings } from '../settings/settings.ts'

// A full host has some thousand objects of ours, each removed by a tool.
export const CLEANUP_DEADLINE_MS = 30_000

export interface DataPlane {
  /** undefined: there is none on this machine. */
  readonly host: LinuxHost | undefined
  /** Why there is none. */
  readonly fault: string | undefined
  /** An operation as commands; works without a data plane, too. */
  readonly describe: (op: HostOp) => readonly string[]
  /** What the host could not set up; grows while the agent runs. */
  readonly warnings: ReadonlySet<string>
}

/** Errors: HostError where the setting dataplane is on; SECOND_INSTANCE when another agent runs here. */
export async function startDataPlane(options: {
  readonly settings: Settings
  readonly store: Pick<Store, 'identity'>
  readonly health: Health
}): Promise<DataPlane> {
  const { settings, store, health } = options
  const warnings = new Set<string>()
  const host = hostOf(settings, {
    privateKey: () => store.identity()?.wireguardPrivateKey ?? '',
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
      fix: `${fix ?? 'see the log'}, then restart meshd; a host without data plane on purpose sets dataplane: off`
    })
    return { ...shared, host: undefined, fault: sentence(fault) }
  }
  await host.start()
  return { ...shared, host, fault: undefined }
}

/** Not started yet. `privateKey`: the tunnel's, base64. */
export function hostOf(
  settings: Settings,
  options: { readonly privateKey: () => string; readonly warn: (message: string) => void }
): LinuxHost {
  return createHost({
    device: settings.device,
    stateFolder: join(settings['state-dir'], 'host'),
    loadBalancer: settings['load-balancer'],
    sysctlRoot: settings['sysctl-root'],
    ...options
  })
}
