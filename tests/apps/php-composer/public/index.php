<?php
require __DIR__ . '/../vendor/autoload.php';
echo (new Hello\Greeting())->text();
