// `make clean`: removes the namespaces, sockets and files of labs whose process was killed.
import { Lab } from './netns.ts'

if (Lab.requirements() === undefined) {
  const lab = await Lab.create('sweep') // a new lab sweeps those of the dead first
  await lab.close()
}
process.exit()
