// Whether a stop of this agent is for long, so that its gateway hands over first (docs/decisions/0075). A restart is not: the
// kernel of the host carries the traffic meanwhile, and a move would cost more than it saves.
import { createRun } from '../../io/host/tools/run.ts'
import { jobOfUnit, type UnitJob } from '../../io/host/tools/service-manager.ts'
import type { Settings } from '../settings/settings.ts'

/** Returns whether the stop that has begun is for long. `job`: what systemd does with the unit of this process. */
export async function isLastingStop(
  settings: Pick<Settings, 'hand-over-on-stop'>,
  job: () => Promise<UnitJob | undefined> = () => jobOfUnit(createRun())
): Promise<boolean> {
  const handsOver = settings['hand-over-on-stop']
  if (handsOver !== 'auto') return handsOver === 'always'
  const asked = await job()
  // Without a job the process was ended by hand, and `Restart=always` starts it again. Without systemd it is not known
  // whether the agent comes back, as in a pod that is deleted.
  return asked !== 'restart' && asked !== 'none'
}
