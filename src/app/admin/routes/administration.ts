// The requests of administrators: each signs a statement, which the trust set carries to all members. The errors are those
// of the functions of app/administration.
import type { Administration } from '../../administration/administration.ts'
import type { Administrators } from '../../administration/administrators.ts'
import type { RootKeys } from '../../administration/root-keys.ts'
import type { AdminHandlers } from '../server.ts'

/** The names of the requests in this file. */
type Name =
  | 'remove'
  | 'revoke'
  | 'restore'
  | 'decide'
  | 'grant'
  | 'cancel'
  | 'adminKey'
  | 'adminAdd'
  | 'adminRemove'
  | 'rootExport'
  | 'rootExported'
  | 'rootImport'
  | 'rootForget'

/**
 * Returns the handlers. Each answers when its statement is on disk and on its way to the neighbours; those of the root keys
 * sign nothing. The requests of the root keys carry a passphrase, which is kept nowhere.
 */
export function administrationRoutes({
  administration,
  administrators,
  rootKeys
}: {
  readonly administration: Administration
  readonly administrators: Administrators
  readonly rootKeys: RootKeys
}): Pick<AdminHandlers, Name> {
  return {
    remove: (request) => administration.remove(request),
    revoke: (request) => administration.revoke(request),
    restore: (request) => administration.restore(request),
    decide: (request) => administration.decide(request),
    grant: (request) => administration.grant(request),
    cancel: (request) => administration.cancel(request),
    adminKey: () => administrators.key(),
    adminAdd: (request) => administrators.add(request),
    adminRemove: (request) => administrators.remove(request),
    rootExport: (request) => rootKeys.exportRoot(request),
    rootExported: (request) => rootKeys.rootExported(request),
    rootImport: (request) => rootKeys.importRoot(request),
    rootForget: (request) => rootKeys.forget(request)
  }
}
