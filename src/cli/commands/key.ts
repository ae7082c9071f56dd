// `meshctl key rotate` gives this agent a new key of WireGuard. The request is POST /v1/key/rotate. No administrator takes
// part: the new key is proved by a signature in the record of the agent (docs/trust.md, "Keys"), so the trust set does not
// change, and the keys of the agent, its cluster and its seats stay as they are.
import { Argument, type Command } from 'commander'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { addExamples, contextOf, print } from '../meshd/context.ts'

// Milliseconds. meshd waits up to 20 s for the device, and then answers that the key is pending; the rest is for the disk.
const TIMEOUT_MS = 40_000

/**
 * Adds the command `key`. The answer has the new key and the one before in base64, as `wg show` prints them, and `pending`
 * while the device has not taken the new one. Errors of meshd: NOT_JOINED (exit code 4); KEY_CHANGING while an earlier
 * rotation is pending; NO_MEMBER when other clusters are known and none is connected: none would hear of the new key, so all
 * tunnels of this gateway would end.
 */
export function addKey(program: Command): void {
  const command = program
    .command('key')
    .addArgument(new Argument('<action>', 'rotate: make a new tunnel key').choices(['rotate']))
    .summary('change the tunnel key of this gateway')
    .description(
      'Makes a new WireGuard key for this gateway. The other clusters take it over by themselves. ' +
        'Each tunnel of this gateway needs one new handshake. What this gateway sends meanwhile, up to 2 s on a busy host, ' +
        'waits in WireGuard: up to 128 packets for each peer. So slow flows lose no packet, and fast ones lose those above 128. ' +
        'What it receives is not affected. ' +
        'A member that has no control connection at that time gets no packets of this gateway until it is connected again. ' +
        'PeerId, certificates and names stay as they are.'
    )
    .action(async () => {
      const context = contextOf(command)
      const answer = await context.client.request(ENDPOINTS.keyRotate, {
        field: 'wireguardKey',
        doing: 'changing the tunnel key',
        timeoutMs: TIMEOUT_MS
      })
      print(context, answer, (clean) =>
        clean.pending === true
          ? {
              body: `The new WireGuard key ${clean.wireguardKey} is not in use yet: WireGuard has not taken it.`,
              note: 'The key is published as soon as the device has it. meshctl status says what keeps it from it'
            }
          : { body: `The WireGuard key is now ${clean.wireguardKey} (before: ${clean.before}).` }
      )
    })
  addExamples(command, [
    ['Change the tunnel key of this gateway', 'meshctl key rotate'],
    ['The new key for a script', 'meshctl key rotate --json | jq -r .wireguardKey']
  ])
}
