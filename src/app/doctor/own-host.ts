// Checks of this host: the data plane, the disk, and the faults that the agent has found by itself. Each reads, and changes
// nothing.
import { statfs } from 'node:fs/promises'
import { release } from 'node:os'
import type { AgentState } from '../admin/agent-state.ts'
import type { Finding } from './finding.ts'

// Bytes of a mebibyte, for texts.
const MB = 1024 * 1024
/** The replica of a large mesh and its next version fit into this; below it the next write may fail. */
const FREE_BYTES_MIN = 64 * MB

/** Whether this host can be programmed, and by what. Without a data plane the faults have the reason and the fix. */
export async function checkDataPlane({
  host,
  hostFault,
  settings,
  session
}: Pick<AgentState, 'host' | 'hostFault' | 'settings' | 'session'>): Promise<readonly Finding[]> {
  if (host === undefined)
    return [
      finding('data-plane', settings.dataplane === 'off' ? 'warning' : 'fault', {
        text: `nothing is programmed on this host: ${hostFault ?? 'there is no data plane'}`,
        fix: 'mend what it names and restart meshd; `meshctl status` has the whole fault'
      })
    ]
  const before = session === undefined ? ', and waits for `meshctl init` or `meshctl join`' : ''
  return [
    finding('data-plane', 'ok', {
      text: `Linux ${release()}, load balancer ${host.loadBalancer}, tunnel device ${settings.device}${before}`
    })
  ]
}

/** Whether the state folder has room. The agent itself tests whether it can be written, and sets a fault if not. */
export async function checkDisk({ settings }: Pick<AgentState, 'settings'>): Promise<readonly Finding[]> {
  const subject = settings['state-dir']
  const { bavail, bsize, blocks } = await statfs(subject)
  const free = bavail * bsize
  // Some file systems have no blocks to count and report 0 of 0 (statfs(2)).
  if (blocks === 0 || free >= FREE_BYTES_MIN)
    return [finding('disk', 'ok', { subject, text: `${Math.floor(free / MB)} MB are free` })]
  return [
    finding('disk', 'fault', {
      subject,
      text: `only ${Math.floor(free / MB)} MB are free`,
      fix: `free ${FREE_BYTES_MIN / MB} MB on its file system: without room, changes live in memory only`
    })
  ]
}

/** What the agent has found by itself: the registry of health, as `meshctl status` shows it. */
export async function checkFaults({ health }: Pick<AgentState, 'health'>): Promise<readonly Finding[]> {
  return health.faults().map(({ code, severity, subject, message, fix }) =>
    finding('fault', severity === 'warning' ? 'warning' : 'fault', {
      code,
      subject,
      text: message,
      ...(fix === '' ? {} : { fix })
    })
  )
}

/** A finding of the whole agent unless `subject` names a part of it. */
function finding(
  check: Finding['check'],
  state: Finding['state'],
  rest: { readonly code?: string; readonly subject?: string; readonly text: string; readonly fix?: string }
): Finding {
  return { check, state, subject: '', ...rest }
}
