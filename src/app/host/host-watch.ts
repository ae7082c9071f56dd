// Passes the hints of the kernel that the host has changed (io/host/watch.ts) to the session. A tool of the watch
// that fails is the fault HOST_WATCH_FAILED; the reconciler still reads the kernel every 10 s.
import type { HostPart } from '../../core/host/host-state.ts'
import type { LinuxHost } from '../../io/host/host.ts'
import type { Health } from '../observe/health.ts'

/** The host that is watched, and the receivers of hints and faults. */
interface HostWatchOptions {
  readonly host: Pick<LinuxHost, 'watch'>
  readonly health: Health
  /**
   * Called with the parts of the host that may have changed, at most every 250 ms for each set of parts. Must not
   * reject.
   */
  readonly onHint: (parts: readonly HostPart[]) => Promise<void>
  /** Ends the watch. */
  readonly signal: AbortSignal
}

/** Starts the watch and returns at once. */
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
            fix: 'run the tool by hand to see why it fails; meanwhile the agent reads the kernel every 10 s'
          })
      }
    },
    signal
  )
}
