// `make conformance SUITE=<program>`: runs the conformance suite of the Multi-Cluster Services API, as a compiled test program, against two
// real Kubernetes clusters of two nodes each with the product in them, installed from the chart. The pods of the suite start from images
// of the names that it asks for, made of this machine's programs. Keeps the suite's reports and output in the folder REPORT, ends with 0
// when all that the suite counts has passed, and leaves the machine as it was, also after Ctrl-C.
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import {
  accessSync,
  constants,
  createWriteStream,
  existsSync,
  mkdirSync,
  readFileSync,
  writeFileSync
} from 'node:fs'
import { join, resolve } from 'node:path'
import { parse } from 'yaml'
import { Lab } from '../netns.ts'
import { programPath, type ToolImage } from './images.ts'
import { nodesImpossible } from './programs.ts'
import { NAMES, World } from './world.ts'

const began = performance.now()
const say = (what: string): void => {
  console.log(`${((performance.now() - began) / 1000).toFixed(0).padStart(4)} s  ${what}`)
}

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129]
] as const)
  process.once(signal, () => process.exit(code))

const { SUITE: suite = '', REPORT = 'conformance-report', FOCUS: focus = '' } = process.env
const reports = resolve(REPORT)
refuse(suiteFault(suite) ?? Lab.requirements() ?? nodesImpossible())
say('this takes about 7 min on two cores, and more while programs are missing in the cache')
mkdirSync(reports, { recursive: true })
const world = await World.raise('conformance', say, [suiteImage()])
try {
  say('installing the chart in both clusters, and joining them')
  await world.join()
  say(`running ${suite}; its output is in ${join(reports, 'suite.log')}`)
  const code = await runSuite()
  for (const name of NAMES) writeFileSync(join(reports, `agents-${name}.log`), await world.agents(name))
  const { passed, total } = summary()
  say(`${passed} of ${total} passed; the reports are in ${reports}`)
  // With FOCUS, the suite counts what it was told to leave out.
  process.exitCode = code === 0 && passed > 0 && (focus !== '' || passed === total) ? 0 : 1
} finally {
  await world.close()
}

/** Why the program cannot be run; undefined = it can. */
function suiteFault(path: string): string | undefined {
  if (path === '')
    return 'SUITE is not set: give the path of the conformance suite of kubernetes-sigs/mcs-api, compiled to a test program (docs/mcs.md)'
  try {
    accessSync(path, constants.X_OK)
    return undefined
  } catch {
    return `SUITE=${path} is no program that can be run`
  }
}

function refuse(reason: string | undefined): void {
  if (reason === undefined) return
  console.error(`The conformance suite cannot run here: ${reason}`)
  process.exit(1)
}

/** One image for both names: a server by socat, and a client with nc and nslookup. */
function suiteImage(): ToolImage {
  const output = execFileSync('build/conformance-tools', {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const {
    socat = '',
    nc = '',
    libraries = ''
  } = Object.fromEntries(
    output.split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)])
  ) as Record<string, string>
  const own = ['grep', 'awk', 'tr', 'tail', 'nslookup'].map((name) => [name, programPath(name)] as const)
  return {
    refs: ['docker.io/alpine/socat:1.7.4.4', 'docker.io/nicolaka/netshoot:v0.15'],
    programs: { ...Object.fromEntries(own), socat, nc },
    libraries
  }
}

/** Resolves to the exit code. The suite runs on the first node of west, from where both API servers are reached. */
async function runSuite(): Promise<number> {
  const kubeconfig = join(world.folder, 'both.kubeconfig')
  writeFileSync(kubeconfig, JSON.stringify(bothClusters()), { mode: 0o600 })
  const [first] = world.cluster('west').nodes
  const log = createWriteStream(join(reports, 'suite.log'))
  const child = (first ?? world.cluster('west').node('west-1')).namespace.spawn(
    [
      resolve(suite),
      `-kubeconfig=${kubeconfig}`,
      `-contexts=${NAMES.join()}`,
      '-organization=Rhizome',
      '-project=rhizome',
      `-version=${version()}`,
      '-ginkgo.v',
      '-ginkgo.no-color',
      '-test.timeout=90m',
      ...(focus === '' ? [] : [`-ginkgo.focus=${focus}`])
    ],
    { cwd: reports }
  )
  child.stdout?.pipe(log, { end: false })
  child.stderr?.pipe(log, { end: false })
  const [code] = (await once(child, 'close')) as [number | null]
  log.end()
  return code ?? 1
}

/** A kubeconfig with one context for each cluster, by its name. */
function bothClusters(): object {
  const parts = NAMES.map((name) => {
    const { clusters, users } = JSON.parse(readFileSync(world.cluster(name).kubeconfig, 'utf8')) as Record<
      'clusters' | 'users',
      readonly [object]
    >
    return {
      cluster: { ...clusters[0], name },
      user: { ...users[0], name },
      context: { name, context: { cluster: name, user: name } }
    }
  })
  return {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': NAMES[0],
    clusters: parts.map(({ cluster }) => cluster),
    users: parts.map(({ user }) => user),
    contexts: parts.map(({ context }) => context)
  }
}

function version(): string {
  return (JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }).version
}

/** The counts of the suite's own report; 0 of 0 where it wrote none. */
function summary(): { readonly passed: number; readonly total: number } {
  const path = join(reports, 'report.yaml')
  if (!existsSync(path)) return { passed: 0, total: 0 }
  const { passed = 0, total = 0 } = parse(readFileSync(path, 'utf8')) as { passed?: number; total?: number }
  return { passed, total }
}
