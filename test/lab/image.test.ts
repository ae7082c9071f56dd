// The container image without a container engine: what the Dockerfile copies is there, what it builds is built the same way in a folder, and
// the result runs with nothing else of the tree. (What its `RUN apt-get` and `FROM` do is not tried here.)
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { eventually, slowness } from '../eventually.ts'
import { freePort } from '../ports.ts'

const FILE = 'deploy/image/Dockerfile'
// What the agent calls by name (src/io/host/tools/run.ts); wg-quick's wg and the modprobe of kmod among them.
const PACKAGES = ['conntrack', 'iproute2', 'ipvsadm', 'kmod', 'nftables', 'wireguard-go', 'wireguard-tools']

interface Instruction {
  readonly stage: number
  readonly word: string
  readonly rest: string
}

const instructions = parse(readFileSync(FILE, 'utf8'))
const stages = Math.max(...instructions.map(({ stage }) => stage)) + 1
const copies = instructions
  .filter(({ word }) => word === 'COPY')
  .map(({ stage, rest }) => ({ stage, ...copyOf(rest) }))

describe('the image', () => {
  let folder: string
  let app: string

  before(async function () {
    folder = mkdtempSync(join(tmpdir(), 'rhizome-image-'))
    app = join(folder, 'app')
    const src = join(folder, 'src')
    stageCopies(0, src)
    // `npm ci` has run in this tree.
    symlinkSync(resolve('node_modules'), join(src, 'node_modules'))
    const build =
      instructions.find(
        ({ stage, word, rest }) => stage === 0 && word === 'RUN' && rest.includes('bundle.ts')
      )?.rest ?? ''
    const shell = build.replaceAll(/ \/runtime\b/g, ` ${folder}/runtime`)
    await promisify(execFile)('sh', ['-c', shell], {
      cwd: src,
      env: environment(),
      timeout: 100_000 * slowness()
    })
    stageCopies(1, app)
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  /** COPY of one stage, with the folders of this test for those of the image. */
  function stageCopies(stage: number, into: string): void {
    for (const { from, sources, target } of copies.filter((copy) => copy.stage === stage)) {
      for (const source of sources) {
        const path = from === undefined ? resolve(source) : join(folder, source)
        const to = target.endsWith('/')
          ? join(into, target, source.split('/').at(-1) ?? '')
          : join(into, target)
        mkdirSync(dirname(to), { recursive: true })
        cpSync(path, to, { recursive: true })
      }
    }
  }

  it('copies what exists, and what the context is allowed to have', () => {
    const allowed = readFileSync(`${FILE}.dockerignore`, 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1))
    const sources = copies.filter(({ from }) => from === undefined).flatMap(({ sources }) => sources)
    assert.ok(sources.length >= 10)
    for (const source of sources) {
      assert.ok(existsSync(source), source)
      assert.ok(
        allowed.some((entry) => source === entry || source.startsWith(`${entry}/`)),
        `${source} is kept out by .dockerignore`
      )
    }
    for (const entry of allowed)
      assert.ok(
        sources.some((source) => source === entry),
        `${entry} is in the context and used by nobody`
      )
  })

  it('ends as nobody, with a health check, and every tool that the agent calls', () => {
    const last = instructions.filter(({ stage }) => stage === stages - 1)
    const of = (word: string): string => last.findLast((instruction) => instruction.word === word)?.rest ?? ''
    assert.match(of('USER'), /^[1-9]\d*:[1-9]\d*$/)
    assert.match(of('HEALTHCHECK'), /127\.0\.0\.1:9465\/healthz/)
    assert.deepEqual(JSON.parse(of('ENTRYPOINT')), ['meshd'])
    const apt = last.find(({ word, rest }) => word === 'RUN' && rest.includes('apt-get install'))?.rest ?? ''
    for (const name of PACKAGES) assert.match(apt, new RegExp(`\\s${name}\\s`))
    assert.match(apt, /--no-install-recommends/)
    assert.doesNotMatch(readFileSync(FILE, 'utf8'), /:latest|ADD |curl|wget|TOKEN|SECRET/)
    for (const { rest } of instructions.filter(({ word }) => word === 'FROM'))
      assert.match(rest, /^\$\{NODE_IMAGE\}/)
    assert.match(readFileSync(FILE, 'utf8'), /ARG NODE_IMAGE=node:\d+\.\d+\.\d+-/)
  })

  it('leaves out what the bundles leave out, and nothing else of node_modules', () => {
    const external = /external: \[(.*)\]/.exec(readFileSync('build/bundle-options.ts', 'utf8'))?.[1] ?? ''
    const names = [...external.matchAll(/'([^']+)'/g)].map(([, name]) => name ?? '')
    const copied = readdirSync(join(app, 'node_modules'))
    assert.ok(names.length > 0)
    for (const name of names) assert.ok(copied.includes(name), name)
    assert.ok(copied.length < 20, copied.join())
  })

  it('runs meshctl, which has its manifests with it', async () => {
    const { stdout } = await promisify(execFile)(
      join(app, 'bin/meshctl'),
      ['install', '--dry-run', '--no-token'],
      { env: environment(), cwd: '/' }
    )
    assert.match(stdout, /kind: DaemonSet/)
  })

  it('runs meshd, which opens its store and is healthy', async () => {
    const port = await freePort()
    const args = [
      `--state-dir=${folder}/state`,
      `--socket=${folder}/meshd.sock`,
      `--manifests=${folder}`,
      `--http-listen=127.0.0.1:${port}`
    ]
    const child = spawn(
      join(app, 'bin/meshd'),
      [...args, '--dataplane=off', '--dns-listen=off', '--listen=/ip4/127.0.0.1/tcp/0'],
      {
        env: environment(),
        cwd: '/',
        stdio: ['ignore', 'pipe', 'pipe']
      }
    )
    let log = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (log += String(chunk)))
    try {
      await eventually(async () => {
        assert.equal(child.exitCode, null, log)
        return (await fetch(`http://127.0.0.1:${port}/healthz`)).ok
      })
    } finally {
      child.kill('SIGTERM')
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
    }
    // By the signal itself, when it came before the agent was ready to take it.
    assert.ok(child.exitCode === 0 || child.signalCode === 'SIGTERM', log)
  })
})

/** Nothing of this tree but its Node. */
function environment(): Record<string, string> {
  return { PATH: `${dirname(process.execPath)}:/usr/sbin:/usr/bin:/sbin:/bin`, HOME: '/nonexistent' }
}

function parse(text: string): Instruction[] {
  const lines = text
    .split('\n')
    .filter((line) => !/^\s*#/.test(line))
    .join('\n')
    .replaceAll(/\\\n/g, ' ')
    .split('\n')
    .filter((line) => line.trim() !== '')
  let stage = -1
  return lines.map((line) => {
    const [, word = '', rest = ''] =
      /^([A-Z]+)\s+(.*)$/.exec(line) ?? assert.fail(`not an instruction: ${line}`)
    if (word === 'FROM') stage++
    return { stage, word, rest: rest.trim() }
  })
}

function copyOf(rest: string): {
  readonly from: string | undefined
  readonly sources: readonly string[]
  readonly target: string
} {
  const words = rest.split(/\s+/)
  const from = words[0]?.startsWith('--from=') === true ? words.shift()?.slice('--from='.length) : undefined
  const target = words.pop() ?? ''
  // "/src/dist" of another stage is src/dist below the folder of this test.
  return { from, sources: words.map((word) => (from === undefined ? word : word.replace(/^\//, ''))), target }
}
