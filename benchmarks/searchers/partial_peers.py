METHODS: dict = {}
