package ledger_test

const childEnv = "DSVAULT_LEDGER_CHILD"

func runChild() {}
