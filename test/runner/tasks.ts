// Which test files run, and in which order: one file is one task, but small files that only compute share one. What takes long begins first, because the
// last file to end decides how long a run takes.

export interface Task {
  /** For the output: the file, or what its files have in common. */
  readonly name: string
  readonly files: readonly string[]
  /** As of nice(1); negative where root runs the tests. */
  readonly niceness: number
  /** Tasks of one class never run side by side. */
  readonly alone: 'nodes' | undefined
}

// Longest first, by the time that they take on an idle machine with two processors; the guest's processor is translated, so it has the first turn, too.
const GUEST = 'test/lab/guest.test.ts'
const LONGEST = [
  GUEST,
  'test/lab/kubelets.test.ts',
  'test/lab/kube-gateways.test.ts',
  'test/hostile/hostile.test.ts',
  'test/io/dns/process.test.ts',
  'test/cli/commands/install.test.ts',
  'test/scenarios/failover.test.ts',
  'test/scenarios/diagnosis.test.ts',
  'test/scenarios/twenty-faults.test.ts',
  'test/scenarios/nat-grid-more.test.ts',
  'test/lab/deploy.test.ts',
  'test/lab/lb-nft.test.ts',
  'test/scenarios/paths.test.ts',
  'test/app/administration/administrators.test.ts',
  'test/app/agent/gateways.test.ts',
  'test/scenarios/own-addresses.test.ts',
  'test/scenarios/last-resort.test.ts',
  'test/app/enrolment/killed-join.test.ts',
  'test/app/agent/backup.test.ts',
  'test/scenarios/obstacles.test.ts',
  'test/scenarios/demo-interrupt.test.ts',
  'test/sim/mesh.test.ts',
  'test/scenarios/large-service.test.ts',
  'test/scenarios/host-damage.test.ts',
  'test/scenarios/backup.test.ts',
  'test/lab/outer-addresses.test.ts',
  'test/scenarios/demo.test.ts',
  'test/cli/commands/views.test.ts',
  'test/scenarios/dns-restart.test.ts'
]
// They start kubelets and containers, which share the machine's control groups.
const NODES =
  /^test\/lab\/(deploy|kubelets|kube-hosts|kube-gateways-traffic|kube-agents|kube-outages|playbook)\.test\.ts$/
// Each of them starts agents, namespaces or servers.
const PROCESSES = /^test\/(lab|scenarios|hostile|app\/(administration|agent|enrolment))\//
// `make test` runs those of them that the table of known faults names.
const CHOSEN = /^test\/(scenarios\/|lab\/(cluster-dns|deploy|feed|kube|playbook))/
const DEMO = /^test\/scenarios\/demo/
const FILES_OF_ONE_TASK = 24

/**
 * `files`: every test file, as test/…; `named`: those that the table of known faults names; `all`: run the others of their kind, too.
 * Each file that is to run is in exactly one task.
 */
export function tasksOf(
  files: readonly string[],
  { all, named }: { readonly all: boolean; readonly named: ReadonlySet<string> }
): readonly Task[] {
  const chosen = files.filter((file) => all || !CHOSEN.test(file) || DEMO.test(file) || named.has(file))
  const place = (file: string): number => {
    const index = LONGEST.indexOf(file)
    return index === -1 ? LONGEST.length : index
  }
  const isOwn = (file: string): boolean => PROCESSES.test(file) || LONGEST.includes(file)
  const own = chosen.filter(isOwn).toSorted((a, b) => place(a) - place(b) || (a < b ? -1 : 1))
  const small = chosen.filter((file) => !isOwn(file)).toSorted()
  const shared: Task[] = []
  for (let start = 0; start < small.length; start += FILES_OF_ONE_TASK) {
    const part = small.slice(start, start + FILES_OF_ONE_TASK)
    shared.push(task(`${part.length} files from ${part[0]}`, part))
  }
  return [...own.map((file) => task(file, [file])), ...shared]
}

function task(name: string, files: readonly string[]): Task {
  const isOne = files.length === 1
  return {
    name: isOne ? (files[0] ?? name) : name,
    files,
    niceness: files[0] === GUEST ? -5 : 0,
    alone: isOne && NODES.test(files[0] ?? '') ? 'nodes' : undefined
  }
}
