// `make clean`: removes the namespaces, sockets and files of labs whose process was killed, and the cgroups that no process is in.
import { Lab } from './netns.ts'
import { removeCgroups } from './nodes/cgroups.ts'

if (Lab.requirements() === undefined) {
  const lab = await Lab.create('sweep') // a new lab sweeps those of the dead first
  await lab.close()
  removeCgroups('rz-', { waits: false })
}
process.exit()
