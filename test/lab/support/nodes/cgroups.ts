// The cgroups of the nodes of a lab, "rz-<id>-<role>", one in each hierarchy of cgroup v1, below the cgroup of the test process. Node and
// containers are in them; a node that has ended leaves empty folders, which are removed here.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const MOUNT = '/sys/fs/cgroup'
const CONTROLLERS = ['cpu', 'cpuacct', 'cpuset', 'memory', 'devices', 'freezer', 'blkio', 'pids', 'systemd']
// The depth in which sweeping looks for the cgroups of a lab: below that of the process that made them.
const DEPTH_MAX = 4

/** Makes the cgroups and returns the files to which a process writes its id to enter them. */
export function makeCgroups(name: string): readonly string[] {
  const own = readFileSync('/proc/self/cgroup', 'utf8')
  return CONTROLLERS.map((controller) => {
    const path = new RegExp(`^\\d+:(?:name=)?${controller}:(.*)$`, 'm').exec(own)?.[1] ?? '/'
    const parent = join(MOUNT, controller, path)
    const folder = join(parent, name)
    mkdirSync(folder, { recursive: true })
    if (controller === 'cpuset') {
      for (const file of ['cpuset.cpus', 'cpuset.mems'])
        writeFileSync(join(folder, file), readFileSync(join(parent, file)))
      writeFileSync(join(folder, 'cgroup.clone_children'), '1')
    }
    return join(folder, 'cgroup.procs')
  })
}

/** The processor time in seconds that all processes in these cgroups have used; `files`: from makeCgroups. */
export function processorSeconds(files: readonly string[]): number {
  const file = files.find((each) => each.includes('/cpuacct/'))?.replace(/cgroup\.procs$/, 'cpuacct.usage')
  return file === undefined ? 0 : Number(readFileSync(file, 'utf8')) / 1e9
}

/**
 * Removes the cgroups whose names begin with `prefix`, with all below them. One that has a process stays. `waits`: the
 * processes are ending, so it is tried again for a second.
 */
export function removeCgroups(prefix: string, { waits }: { readonly waits: boolean }): void {
  for (let attempt = 0; attempt < (waits ? 50 : 1); attempt++) {
    const found = CONTROLLERS.flatMap((controller) => below(join(MOUNT, controller), prefix, DEPTH_MAX))
    for (const folder of found) removeTree(folder)
    if (!found.some((folder) => existsSync(folder))) return
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20)
  }
}

function below(folder: string, prefix: string, depth: number): string[] {
  if (depth === 0) return []
  return foldersOf(folder).flatMap((name) =>
    name.startsWith(prefix) ? [join(folder, name)] : below(join(folder, name), prefix, depth - 1)
  )
}

function removeTree(folder: string): void {
  for (const name of foldersOf(folder)) removeTree(join(folder, name))
  try {
    rmdirSync(folder)
  } catch {
    // It has a process, or another run has removed it.
  }
}

function foldersOf(folder: string): string[] {
  if (!existsSync(folder)) return []
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
  } catch {
    return []
  }
}
