// The hints of the kernel that something of the host has changed. A tool of the watch that fails is the fault HOST_WATCH_FAILED.
import type { HostPart } from '../../core/host/host-state.ts'
import type { LinuxHost } from '../../io/host/host.ts'
import type { Health } from '../observe/health.ts'

export interface HostWatchOptions {
  readonly host: Pick<LinuxHost, 'watch'>
  readonly health: Health
  readonly onHint: (parts: readonly HostPart[]) => Promise<void>
  /** Ends the watch. */
  readonly signal: AbortSignal
}

export function watchHost({ host, health, onHint, signal }: HostWatchOptions): void {
  void host.watch(
    {
      onHint: (parts) => void onHint(parts),
      onFault: (watch, error) => {
        if (error === undefined) health.clear('HOST_WATCH_FAILED', watch)
        else
          health.setError('HOST_WATCH_FAILED', error, {
            subject: watch,
            severity: 'warning',
            fix: 'nothing stops: the kernel is still read every 10 s; see why the tool fails'
          })
      }
    },
    signal
  )
}
