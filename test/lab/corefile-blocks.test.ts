// Whether CoreDNS would start: what our reader of Corefiles says against what the real CoreDNS does.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { readCorefile } from '../../src/core/coredns/corefile-blocks.ts'
import { labProgram } from './support/coredns.ts'

const OURS = (keys: string): string => `${keys} {\n    whoami\n}\n`
// The port that the test gives to CoreDNS in place of 53.
const PORT = 17_953

// Each is put behind our block for cluster.east, cluster.all and 2.10.in-addr.arpa.
const OTHERS: Readonly<Record<string, string>> = {
  'another zone': OURS('example.org'),
  'the same zone': OURS('cluster.east'),
  'with a dot': OURS('cluster.east.'),
  'in capitals': OURS('Cluster.EAST'),
  'with its transport': OURS('dns://cluster.east'),
  'with its port': OURS(`cluster.east:${PORT}`),
  'on another port': OURS('cluster.east:17954'),
  'over another transport': OURS('tls://cluster.east:17955'),
  'in a list with commas': OURS('example.org, cluster.east'),
  'in a list over lines': OURS('example.org,\n  cluster.all'),
  'in a list without commas': OURS('example.org cluster.all'),
  'as a prefix': OURS('10.2.0.0/16'),
  'as a prefix with bits of the host': OURS('10.2.3.4/16'),
  'as a wider prefix': OURS('10.0.0.0/8'),
  'as a longer prefix': OURS('10.2.8.0/21'),
  'as two of itself': OURS('example.org') + OURS('EXAMPLE.org.'),
  'in quotes': OURS('"cluster.east"'),
  'in a comment': `# cluster.east {\n${OURS('example.org')}`,
  'behind a comment in the line': OURS('example.org # cluster.east'),
  'as a snippet': '(cluster.east) {\n    whoami\n}\nexample.org {\n    import cluster.east\n}\n',
  'with nested braces':
    'example.org {\n    template IN A {\n        rcode NXDOMAIN\n    }\n}\n' + OURS('cluster.all'),
  'not closed': 'example.org {\n    whoami\n',
  'closed twice': `${OURS('example.org')}}\n`,
  'carriage returns': OURS('cluster.east').replaceAll('\n', '\r\n'),
  tabs: '\tcluster.east\t{\n\twhoami\n\t}\n'
}

describe('Corefile blocks beside the real CoreDNS', function () {
  this.timeout(60 * 60_000)
  let program = ''
  let folder = ''

  before(async () => {
    program = await labProgram('coredns')
    folder = await mkdtemp(join(tmpdir(), 'rhizome-corefile-'))
  })
  after(() => rm(folder, { recursive: true, force: true }))

  for (const [name, other] of Object.entries(OTHERS)) {
    it(`agrees whether it starts: ${name}`, async () => {
      const text = OURS('cluster.east cluster.all 2.10.in-addr.arpa') + other
      const { starts, said } = await tryCoredns(text)
      const read = readCorefile(text, PORT)
      assert.equal(
        read.kind === 'served',
        starts,
        `${read.kind === 'invalid' ? read.reason : 'served'}; CoreDNS: ${said}`
      )
    })
  }

  async function tryCoredns(text: string): Promise<{ starts: boolean; said: string }> {
    const file = join(folder, 'Corefile')
    await writeFile(file, text)
    const child = spawn(program, ['-conf', file, '-dns.port', String(PORT)], {
      stdio: ['ignore', 'pipe', 'pipe']
    })
    let said = ''
    const started = new Promise<boolean>((resolve) => {
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (chunk: Buffer) => {
          said += chunk.toString()
          if (said.includes('CoreDNS-')) resolve(true) // the banner comes once every block is loaded
        })
      child.once('exit', () => resolve(false))
    })
    const starts = await started
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    return { starts, said }
  }
})
