// Every exit code, and that every error says what is wrong and what to do.
import assert from 'node:assert/strict'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { API_VERSION } from '../../../src/api/answers.ts'
import { EXIT, EXIT_CODES, exitCodeOf } from '../../../src/cli/output/exit-codes.ts'
import { MESHCTL } from '../../built.ts'
import { meshctl, run, startFakeMeshd, type FakeMeshd, type Run } from '../fake-meshd.ts'
import * as samples from '../samples.ts'

describe('meshctl failures', () => {
  let fake: FakeMeshd

  before(async () => {
    fake = await startFakeMeshd()
  })
  after(() => fake.stop())

  const cli = (...args: string[]): Promise<Run> => meshctl(['--socket', fake.socket, ...args])

  it('documents every exit code in --help', async () => {
    const { code, stdout } = await meshctl(['--help'])
    assert.equal(code, EXIT.ok)
    assert.deepEqual(new Set(EXIT_CODES.map(({ exit }) => exit)), new Set(Object.values(EXIT)))
    for (const { exit, meaning } of EXIT_CODES)
      assert.ok(stdout.includes(`${String(exit).padStart(5)}  ${meaning}\n`))
  })

  it('teaches each command with an example', async () => {
    const { stdout } = await meshctl(['--help'])
    const names = [...stdout.matchAll(/^ {2}([a-z]+) .*$/gm)].map(([, name]) => name ?? '')
    const commands = names.filter((name) => !['meshctl', 'help'].includes(name) && /^[a-z]+$/.test(name))
    assert.deepEqual(new Set(commands), new Set(COMMANDS))
    const helps = await Promise.all(COMMANDS.map((command) => meshctl([command, '--help'])))
    for (const [index, command] of COMMANDS.entries()) {
      const help = helps[index] ?? assert.fail()
      assert.equal(help.code, 0)
      assert.match(help.stdout, new RegExp(`Examples:\\n  # .*\\n  .*meshctl ${command}`), command)
    }
  })

  it('2: wrong command lines, each with the field and a fix', async () => {
    const cases: readonly [string[], RegExp][] = [
      [['peer'], /^error: unknown command "peer"\n {2}fix: Did you mean peers\? `meshctl --help`/],
      [
        ['peers', '--clutser', 'x'],
        /unknown option '--clutser'\n {2}fix: Did you mean --cluster\? `meshctl peers --help`/
      ],
      [['peers', 'extra'], /too many arguments/],
      [['peers', '--watch', '0'], /^error: --watch: "0" is not a number of seconds/],
      [['peers', '-o', 'xml'], /argument 'xml' is invalid. Allowed choices are table, wide, json/],
      [
        ['peers', '--timeout', '5'],
        /^error: --timeout: "5" is not a time above zero\n {2}fix: add a unit: 5s, 5m or 5h/
      ],
      [
        ['init', '--pod-cidr', '10.1.0.0/16'],
        /required option '--cluster <name>' not specified\n {2}fix: `meshctl init --help`/
      ],
      [
        ['init', '--cluster', 'West'],
        /^error: --cluster: "West" is not a cluster name\n {2}fix: use a DNS label/
      ],
      [['init', '--cluster', 'all'], /^error: --cluster: "all" is reserved/],
      [
        ['init', '--pod-cidr', '10.1.0.1/16'],
        /^error: --pod-cidr: "10.1.0.1\/16" has host bits set: did you mean 10.1.0.0\/16\?/
      ],
      [['init', '--service-cidr', '10.1.0.0'], /^error: --service-cidr: "10.1.0.0" is not a prefix/],
      [['invite'], /^error: cluster: no cluster was named\n  fix: write `meshctl invite <cluster>`, or/],
      [['invite', 'a_b'], /^error: cluster: "a_b" is not a cluster name/],
      [
        ['invite', 'east', '--expires', '24'],
        /^error: --expires: "24" is not a time above zero\n {2}fix: add a unit/
      ],
      [['invite', 'east', '--expires', '400d'], /^error: --expires: "400d" is more than 366 days/],
      [['dns', 'a b'], /^error: name: "a b" is not a DNS name/],
      [
        ['dns', 'a', '--type', 'MX'],
        /^error: --type: "MX" is not a type that meshd answers\n {2}fix: use A, AAAA/
      ],
      [['dns', '--type', 'A'], /^error: --type: this flag needs a name/],
      [['completion', 'tcsh'], /Allowed choices are bash, zsh, fish/]
    ]
    const runs = await Promise.all(cases.map(([args]) => cli(...args)))
    for (const [index, [args, message]] of cases.entries()) {
      const { code, stdout, stderr } = runs[index] ?? assert.fail()
      assert.equal(code, EXIT.usage, `${args.join(' ')}: ${stderr}`)
      assert.equal(stdout, '')
      assert.match(stderr, message)
      assert.match(stderr, /^ {2}fix: \S/m)
    }
  })

  it('2: no command at all shows the help on stderr', async () => {
    const { code, stdout, stderr } = await meshctl([])
    assert.equal(code, EXIT.usage)
    assert.equal(stdout, '')
    assert.match(stderr, /^Usage: meshctl/)
  })

  it('3: no socket, nobody behind it, no socket at all: each says which and what to do', async () => {
    const stale = join(fake.folder, 'stale.sock')
    await leaveStaleSocket(stale)
    const file = join(fake.folder, 'file')
    writeFileSync(file, '')
    const cases: readonly [string, RegExp][] = [
      [
        join(fake.folder, 'none.sock'),
        /there is no such socket\n {2}fix: start meshd on this host, or name its socket/
      ],
      [stale, /no process listens there \(meshd has stopped\)\n {2}fix: start meshd again/],
      [file, /\n {2}fix: /],
      [`/${'x'.repeat(200)}`, /107 bytes/]
    ]
    for (const [socket, message] of cases) {
      const { code, stderr } = await meshctl(['peers'], { env: { RHIZOME_SOCKET: socket } })
      assert.equal(code, EXIT.unreachable, stderr)
      assert.ok(stderr.startsWith(`error: cannot reach meshd on ${socket}: `))
      assert.match(stderr, message)
    }
  })

  it('3: a socket that this user may not open says to use sudo', async () => {
    chmodSync(fake.folder, 0o755)
    chmodSync(fake.socket, 0o600)
    const args = [MESHCTL, '--socket', fake.socket, 'peers']
    const asOther =
      process.getuid?.() === 0
        ? await run('setpriv', ['--reuid=65534', '--clear-groups', process.execPath, ...args])
        : await (chmodSync(fake.socket, 0), run(process.execPath, args))
    chmodSync(fake.socket, 0o600)
    assert.equal(asOther.code, EXIT.unreachable, asOther.stderr)
    assert.match(asOther.stderr, /permission denied\n {2}fix: use sudo/)
  })

  it('1, 4, 5, 6, 7: by the code that meshd gives', async () => {
    const cases: readonly [string, number][] = [
      ['INTERNAL', EXIT.failed],
      ['DISK_FULL', EXIT.failed],
      ['BAD_REQUEST', EXIT.usage],
      ['NOT_JOINED', EXIT.notJoined],
      ['ALREADY_JOINED', EXIT.refused],
      ['TOKEN_EXPIRED', EXIT.refused],
      ['NAME_TAKEN', EXIT.refused],
      ['PREFIX_OVERLAP', EXIT.refused],
      ['UNREACHABLE', EXIT.timeout],
      ['TIMEOUT', EXIT.timeout],
      ['NOT_FOUND', EXIT.incompatible],
      ['CLUSTER_KEY_TAKEN', EXIT.refused],
      ['CLUSTER_KEY_BUSY', EXIT.timeout],
      ['CLUSTER_DNS_DAMAGED', EXIT.failed],
      ['MESH_NAME_TAKEN', EXIT.refused],
      ['MESH_PROTOCOL', EXIT.refused],
      ['MESH_BUSY', EXIT.timeout],
      ['NO_SEAT', EXIT.refused],
      ['TOKEN_NEWER_VERSION', EXIT.incompatible],
      ['DEVICE_TAKEN', EXIT.failed]
    ]
    for (const [code, exit] of cases) assert.equal(exitCodeOf(code), exit, code)
    fake.fail('/v1/peers', 409, { code: 'NOT_JOINED', message: 'in no mesh', fix: 'meshctl init' })
    assert.deepEqual(await cli('peers'), {
      code: EXIT.notJoined,
      stdout: '',
      stderr: 'error: in no mesh\n  fix: meshctl init\n'
    })
  })

  it('with --json an error is one line of ErrorAnswer on stderr, and stdout is empty', async () => {
    fake.fail('/v1/join', 400, { code: 'TOKEN_EXPIRED', message: 'expired', fix: 'ask for a new one' })
    const refused = await cli('join', 'rhz1.abc', '--json')
    assert.deepEqual(refused, {
      code: EXIT.refused,
      stdout: '',
      stderr: `${JSON.stringify({
        apiVersion: API_VERSION,
        error: { code: 'TOKEN_EXPIRED', message: 'expired', fix: 'ask for a new one' }
      })}\n`
    })
    const usage = await cli('peers', '--clutser', '--json')
    assert.equal(usage.code, EXIT.usage)
    assert.equal(JSON.parse(usage.stderr).error.code, 'BAD_ARGUMENT')
  })

  it('6: an agent that does not answer in time', async () => {
    fake.handle('/v1/routes', () => {})
    const { code, stderr } = await cli('routes', '--timeout', '1s')
    assert.equal(code, EXIT.timeout)
    assert.match(stderr, /did not answer within 1 s .*\n {2}fix: read the log of meshd/)
  })

  it('7: a newer and an older API are told apart', async () => {
    fake.handle('/v1/peers', (response) => response.end('{"apiVersion":"rhizome.io/v2","peers":[]}'))
    const newer = await cli('peers')
    assert.equal(newer.code, EXIT.incompatible)
    assert.match(
      newer.stderr,
      /speaks the API rhizome\.io\/v2, this meshctl speaks rhizome\.io\/v1\n {2}fix: upgrade meshctl/
    )
    fake.handle('/v1/peers', (response) => response.end('{"apiVersion":"rhizome.io/v0","peers":[]}'))
    assert.match((await cli('peers')).stderr, /fix: upgrade meshd/)
  })

  it('1: an answer that is no answer of meshd', async () => {
    for (const body of ['<html>', '[]', 'null', '{"peers":[]}', `{"apiVersion":"${API_VERSION}"}`]) {
      fake.handle('/v1/peers', (response) => response.end(body))
      const { code, stderr } = await cli('peers')
      assert.equal(code, EXIT.failed, body)
      assert.match(stderr, /the server there is not meshd, or has another version\n {2}fix: check --socket/)
    }
  })

  it('3: an agent that ends the connection half-way', async () => {
    fake.handle('/v1/peers', (response) => {
      response.writeHead(200, { 'content-length': '1000' })
      response.write('{', () => response.destroy())
    })
    const { code, stderr } = await cli('peers')
    assert.equal(code, EXIT.unreachable, stderr)
    assert.match(stderr, /the connection was closed/)
  })

  it('an answer with a field missing is a fault that is reported as such, not a stack trace', async () => {
    fake.answer('/v1/status', { ...samples.STATUS, source: undefined })
    const { code, stderr } = await cli('status')
    assert.equal(code, EXIT.failed)
    assert.match(stderr, /^error: a fault in meshctl: .*\n {2}fix: please report it/)
    assert.doesNotMatch(stderr, /at .*\.ts:/)
  })
})

const COMMANDS =
  'init invite join leave trust admin root backup remove revoke restore decide grant key cert drain undrain install uninstall status peers services routes dns why ping verify doctor drift events bundle plan version completion'.split(
    ' '
  )

/** A socket file as a killed agent leaves it. */
async function leaveStaleSocket(path: string): Promise<void> {
  const keeper = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`
  await run(process.execPath, ['-e', keeper, path])
}
