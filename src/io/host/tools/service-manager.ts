// Asks systemd what it is about to do with the unit of this process, when it has asked the process to stop.
import { readFileSync } from 'node:fs'
import type { Run } from '../ports.ts'

// A person or a shutdown waits for the stop. systemctl answers within 20 ms.
const DEADLINE_MS = 2_000

/** `stop`: also at the shutdown of the host. `restart`: the unit starts again at once. `none`: no job, as after a `kill`. */
export type UnitJob = 'stop' | 'restart' | 'none'

/** How the process finds its unit; tests replace it. */
interface UnitFacts {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cgroup: () => string
}

const OWN: UnitFacts = { env: process.env, cgroup: () => readFileSync('/proc/self/cgroup', 'utf8') }

/** Returns the job of the unit of this process; undefined: this process is no service of systemd, or systemd does not answer. */
export async function jobOfUnit(run: Run, { env, cgroup }: UnitFacts = OWN): Promise<UnitJob | undefined> {
  if (env['INVOCATION_ID'] === undefined) return undefined // systemd.exec(5): set for each service
  try {
    const unit = unitOf(cgroup())
    if (unit === undefined) return undefined
    const args = ['list-jobs', '--no-legend', '--no-pager', '--plain']
    const { stdout } = await run('systemctl', args, { deadlineMs: DEADLINE_MS })
    return jobOf(stdout, unit)
  } catch {
    return undefined
  }
}

/** "0::/system.slice/meshd.service": the last part that is a service. In a container it is the unit of another program. */
function unitOf(cgroup: string): string | undefined {
  const path = cgroup.split('\n').find((line) => line.startsWith('0::'))
  return path?.split('/').findLast((part) => part.endsWith('.service'))
}

/** A line is "JOB UNIT TYPE STATE". */
function jobOf(list: string, unit: string): UnitJob {
  const rows = list.split('\n').map((line) => line.trim().split(/\s+/))
  const type = rows.find((row) => row[1] === unit)?.[2]
  if (type === undefined) return 'none'
  return type.includes('restart') ? 'restart' : 'stop'
}
