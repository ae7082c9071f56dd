// `meshctl decide`: an administrator decides which of several cluster keys has a name. The request is POST /v1/trust/decide.
// It signs a Decide: rule S6 leaves this key as the only claimant of the name, and rule S4 lets it stand although its
// admission fell. A Bar comes before it, so a barred key needs `meshctl restore` first.
import type { Command } from 'commander'
import { ENDPOINTS } from '../../api/endpoints.ts'
import { parseKey } from '../meshd/arguments.ts'
import { addExamples, contextOf, print } from '../meshd/context.ts'
import { renderStatement } from '../meshd/statement.ts'

/**
 * Adds the command `decide`. The key is asked for next to the name, because the name alone is what is contested. The key
 * that is passed over claims nothing any more, prefixes included. Errors of meshd: NO_SEAT and SEAT_EXCEEDED when no seat of
 * this agent stands or covers the name; UNKNOWN_CLUSTER when no key of this name begins so; AMBIGUOUS_CLUSTER when several
 * do; BARRED for a key that a Bar ends; NOT_JOINED (exit code 4).
 */
export function addDecide(program: Command): void {
  const command = program
    .command('decide')
    .summary('give a contested name to one cluster key')
    .description(
      'When two clusters claim one name (a token was used at two doors at once, or an administrator was removed), every ' +
        'member keeps the one that it knew first. This settles it for all members. `meshctl trust status` shows the keys. ' +
        'It also adopts a cluster whose admission fell with its administrator.'
    )
    .argument('<name>', 'name that several cluster keys claim')
    .argument('<key>', 'key of the one that shall have it, or its first 8 or more digits')
    .action(async (name: string, key: string) => {
      const context = contextOf(command)
      // meshd signs with the seat of this agent, and answers when the statement is on disk and on its way.
      const answer = await context.client.request(ENDPOINTS.decide, {
        send: {
          name,
          key: parseKey('key', key, {
            min: 8,
            where: 'copy it from the column KEY of `meshctl trust status`'
          })
        },
        field: 'done',
        doing: 'deciding'
      })
      print(context, answer, renderStatement)
    })
  addExamples(command, [
    ['The one that stays', 'meshctl decide east 3f9c02d14b7a5e88'],
    ['The claimants and their keys', 'meshctl trust status']
  ])
}
