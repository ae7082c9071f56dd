// A real agent, killed with -9 in the middle of its first pull, and started again on what it left on disk.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { AgentProcess, newAgents, withFolder } from '../../bench/agents.ts'

const ENDPOINTS = 200_000
const SERVICES = ENDPOINTS / 100
const PATIENCE_MS = 300_000
// Chunks of 64 KiB that were received and not on disk yet (on a busy machine up to three), and the handshakes of two lives.
const LOST_BYTES_MAX = 4 * 64 * 1024

describe('an agent killed in the middle of joining', function () {
  this.timeout(3 * PATIENCE_MS)

  it('goes on where it was: what it has on disk is not sent again, and the view is whole', async () => {
    await withFolder(async (folder) => {
      const [site, joiner] = newAgents(2, folder, true)
      assert.ok(site && joiner)
      const processes = Array.from({ length: 4 }, () => new AgentProcess())
      const [first, whole, killed, next] = processes
      assert.ok(first && whole && killed && next)
      const begin = async (agent: AgentProcess, life: string) => {
        const spec = { ...joiner, folder: join(folder, life) }
        await agent.ask('start', { agents: [spec], address: '127.0.0.1' }, PATIENCE_MS)
        await agent.ask('connect', { members })
      }
      const joinBy = async (agent: AgentProcess, life: string) => {
        await begin(agent, life)
        const want = { agent: 0, cluster: site.cluster, services: SERVICES, timeoutMs: PATIENCE_MS }
        await agent.ask('await', want, PATIENCE_MS)
        return (await agent.ask('facts', {})).bytesIn
      }
      const { members } = await first.ask('start', { agents: [site], address: '127.0.0.1' }, PATIENCE_MS)
      try {
        await first.ask('catalogue', { agent: 0, endpoints: ENDPOINTS }, PATIENCE_MS)
        const wholeBytes = await joinBy(whole, 'whole')
        await begin(killed, 'killed')
        const enough = { bytes: wholeBytes / 3, timeoutMs: PATIENCE_MS }
        const killedBytes = await killed.ask('awaitBytes', enough, PATIENCE_MS)
        await killed.kill()
        const nextBytes = await joinBy(next, 'killed')
        const againBytes = killedBytes + nextBytes - wholeBytes
        assert.ok(againBytes <= LOST_BYTES_MAX, `${againBytes} of ${wholeBytes} bytes came again`)
      } finally {
        await Promise.all(processes.map((each) => each.end()))
      }
    })
  })
})
